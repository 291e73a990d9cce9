"""Design spaces: boxes, pools and what limits them."""
