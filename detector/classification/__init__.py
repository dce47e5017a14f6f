"""Classification of pictures of any size: convolutions, spatial pyramid, fully connected layers."""
