package firewall

// ModeWords are a network's gateway modes for people: one word if both families have the
// same, else one for each family that has one.
func ModeWords(mode4, mode6 GatewayMode) []string {
	switch {
	case mode4 == Plain && mode6 == Plain:
		return nil
	case mode4 == mode6:
		return []string{string(mode4)}
	}
	var words []string
	if mode4 != Plain {
		words = append(words, "ipv4="+string(mode4))
	}
	if mode6 != Plain {
		words = append(words, "ipv6="+string(mode6))
	}
	return words
}

// IsGatewayMode tells whether a word is a gateway mode.
func IsGatewayMode(word string) bool {
	_, err := ParseGatewayMode(word)
	return err == nil
}
