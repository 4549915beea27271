"""How settings are read: options and variables, and the checks of their values. It names no setting."""
