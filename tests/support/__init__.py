"""Helpers of the tests: real processes on free ports, ended by their pids."""
