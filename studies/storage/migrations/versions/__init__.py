"""One file a layout: how the tables come from the layout before."""
