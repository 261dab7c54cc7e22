"""The connection under the application: how long, how large and how many. Knows HTTP's form, nothing of requests."""
