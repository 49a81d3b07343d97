// decK, built from its module with the versions of go.sum: its own module has replacements, which `go install` refuses.
package main

import (
	"context"

	"github.com/kong/deck/cmd"
)

func main() { cmd.Execute(context.Background()) }
