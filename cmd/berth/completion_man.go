package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// docCommand is for those who package the program.
func (p *program) docCommand() *cobra.Command {
	return group(&cobra.Command{Use: "doc", Short: "Write documentation", Hidden: true, Long: "Write documentation for packages.\n\n" + exitCodes}, &cobra.Command{
		Use:     "man [flags] FOLDER",
		Short:   "Write the manual pages",
		Long:    "Write one manual page for each command into a folder, which is made if need be.\n\n" + exitCodes,
		Example: "  berth doc man /usr/local/share/man/man8",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writeManuals(c.Root(), args[0])
		},
	})
}

// manSection is that of programs for administrators (man(1)).
const manSection = "8"

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func writeManuals(c *cobra.Command, dir string) error {
	page := filepath.Join(dir, manName(c)+"."+manSection)
	if err := os.WriteFile(page, []byte(manual(c)), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := writeManuals(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// manual is a command's page in the language of man(7).
func manual(c *cobra.Command) string {
	var b strings.Builder
	name := manName(c)
	fmt.Fprintf(&b, ".TH %q %q \"\" %q \"Berth\"\n", strings.ToUpper(name), manSection, "berth "+cni.Version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	b.WriteString(".SH DESCRIPTION\n")
	writeText(&b, cmp.Or(c.Long, c.Short))
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n\\fB%s\\fR(%s)\n%s\n", roff(manName(sub)), manSection, roff(sub.Short))
			}
		}
	}
	writeFlags(&b, "OPTIONS", c.NonInheritedFlags())
	writeFlags(&b, "OPTIONS OF EVERY COMMAND", c.InheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	if c.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n\\fB%s\\fR(%s)\n", roff(manName(c.Parent())), manSection)
	}
	return b.String()
}

// writeText writes paragraphs; those that are indented stay as they are.
func writeText(b *strings.Builder, text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.HasPrefix(paragraph, "  ") || strings.Contains(paragraph, "\n  ") {
			fmt.Fprintf(b, ".nf\n%s\n.fi\n", roff(paragraph))
			continue
		}
		b.WriteString(roff(paragraph) + "\n")
	}
}

func writeFlags(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		word := "\\fB" + roff("--"+f.Name) + "\\fR"
		if f.Shorthand != "" {
			word = "\\fB" + roff("-"+f.Shorthand) + "\\fR, " + word
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" && f.NoOptDefVal == "" {
			word += " \\fI" + roff(kind) + "\\fR"
		}
		if f.DefValue != "" && f.DefValue != "false" && !strings.Contains(usage, "default") {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", word, roff(usage))
	})
}

// roff escapes what man(7) would take for its own: backslashes, hyphens that are to be
// copied from the page, and a dot or an apostrophe at the start of a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
