"""Training by gradient descent: fc layers on pooled features, or the backbone together with them."""
