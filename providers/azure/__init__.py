"""Azure virtual machines: spot and regular, one resource group."""
