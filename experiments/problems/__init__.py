"""Problems of the reference domain: their generators and their splits."""
