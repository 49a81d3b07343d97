"""What tests share: real processes on free ports, ended by their pids."""
