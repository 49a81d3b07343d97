"""The processes of one gateway: a supervisor, one control process, and workers. Each is exec'd, none is forked."""
