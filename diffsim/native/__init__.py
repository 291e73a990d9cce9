"""Native code for the common fields: networks and energies of networks, solved and differentiated without a graph."""
