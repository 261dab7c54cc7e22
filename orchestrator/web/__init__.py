"""The pages: what people see in a browser, rendered here on the server. See docs/pages.md."""
