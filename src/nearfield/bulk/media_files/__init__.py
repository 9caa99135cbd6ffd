"""Files of pictures, videos and sounds as sources of bulk embedding."""
