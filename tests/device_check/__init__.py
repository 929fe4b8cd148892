"""What only a GPU can tell, in one run of at most four minutes: `make device-check OUT=FOLDER`."""
