"""The ways in: a token, or a namespace of Kubeflow, and the first page."""
