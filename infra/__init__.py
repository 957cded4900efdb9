"""What the pipeline runs on: containers, Kubernetes, and the same as plain processes."""
