package main

import (
	"testing"

	"github.com/berth-cni/berth/pkg/cni/cnitest"
)

func TestKeys(t *testing.T) { cnitest.Keys(t, mode) }
