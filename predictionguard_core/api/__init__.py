"""Request and response models, one module per endpoint. Import from the submodules."""
