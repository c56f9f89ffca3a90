"""Tests of what is deployed: containers, hosts, the processes of a deployment together."""
