"""Capstan on a real kubelet: our image and our chart on the one-node cluster of `../shared/tier3`, boards faked."""
