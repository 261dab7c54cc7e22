"""What runs: pools and gangs."""
