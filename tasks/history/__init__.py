"""The journal of a registered model: who was champion when, and why; nobody changes it unseen."""
