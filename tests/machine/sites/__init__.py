"""Mail servers as people run them: what tools/campaign sites and a machine test try pf-agent on."""
