"""The store: connections, keys, scripts, encryption; it knows nothing above itself."""
