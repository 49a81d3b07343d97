"""The verbs, one module each. `aigw.cli` names them in the order of the help and imports one when it is called.

A verb is a function: its parameters are its arguments and options, its docstring is its help, its result the exit code.
"""
