# What this package gave of the tool is gone: the other one gives it now, where it is here.
if [ "$1" -eq 0 ]; then
	pass_on() {
		[ ! -L "$2" ] || [ -e "$2" ] || rm -f "$2"
		[ -e "$2" ] || [ ! -e "$1" ] || ln -s "$1" "$2"
	}
	share=/usr/share/fanfare-publisher
	pass_on /usr/libexec/fanfare-publisher/fanfare /usr/bin/fanfare
	pass_on "$share/fanfare.1.gz" /usr/share/man/man1/fanfare.1.gz
	pass_on "$share/fanfare.bash" /usr/share/bash-completion/completions/fanfare
	pass_on "$share/fanfare.zsh" /usr/share/zsh/site-functions/_fanfare
	pass_on "$share/fanfare.fish" /usr/share/fish/vendor_completions.d/fanfare.fish
	# Nobody else's, and no package's by name.
	for folder in /usr/libexec /usr/share /usr/share/doc /usr/share/licenses; do
		[ ! -d "$folder/fanfare-agent" ] || find "$folder/fanfare-agent" -depth -type d -empty -delete
	done
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	[ "$1" -lt 1 ] || systemctl --no-block try-restart fanfare-agent.service || :
fi
