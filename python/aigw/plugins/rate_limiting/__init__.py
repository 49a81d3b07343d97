"""rate-limiting: limits requests in windows, per consumer, credential, IP, service, header or path."""
