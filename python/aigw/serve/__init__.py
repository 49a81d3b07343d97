"""The processes of one gateway: a supervisor, one control process, and workers. Each is exec'd, none is forked.

supervisor       starts the processes, replaces those that die, ends them in order
slot             one child and its restarts
child            orders and messages between the supervisor and a child
worker           one proxy worker: its objects, its server
loop             a worker's event loop, and inline stepping
drain            the end of a worker
control_process  the control process: runs the Admin API, the watch, the exporter
control_plane    builds the objects of the control process: store, publication, file, Admin API
watch            polls the configuration file and loads changes
server           Granian's embedded server, wrapped
servers          a worker's servers: the accepting one, and earlier ones with another certificate
certificate      the certificate of the proxy's address, and its renewal
listen           sockets of the gateway's addresses
log              one line per event, on standard error
progress         a progress line for long work at a terminal
"""
