"""The commands for whoever runs the service, one module for each kind of work."""
