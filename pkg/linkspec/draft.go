package linkspec

// Draft is a link that was created and may still be taken back at no cost.
type Draft interface {
	// Keep makes the link outlive the process.
	Keep() error
	// Discard deletes the link, unless it was kept.
	Discard() error
}
