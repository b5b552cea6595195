"""The control plane a person sees: the consent popup and the dashboard."""
