// Command dhow moves a running application and its databases.
package main

import (
	"os"

	"dhow/internal/cli"
)

func main() { os.Exit(cli.Main()) }
