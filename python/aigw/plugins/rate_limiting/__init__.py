"""rate-limiting: how many requests in a window, per consumer, credential, IP, service, header or path."""
