"""What bad clients and bad upstreams cost the workers and everybody else, in full size: `python -m benches.bounds`."""
