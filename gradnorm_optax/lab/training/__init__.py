"""A model on its data: its step, its gradients, its compiled programs."""
