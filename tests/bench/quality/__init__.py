"""Quality beside other routers, re-trained on the same folds and measured on the same rows: `make bench-quality`."""
