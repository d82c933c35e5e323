systemd-sysusers fanfare-agent.conf
systemd-tmpfiles --create fanfare-agent.conf || :
# The tool is in both packages: the one that was here first gives it. See also %postun.
own=/usr/libexec/fanfare-agent/fanfare
share=/usr/share/fanfare-agent
give() { [ -e "$2" ] || ln -sf "$1" "$2"; }
mkdir -p /usr/share/zsh/site-functions /usr/share/fish/vendor_completions.d
give "$own" /usr/bin/fanfare
give "$share/fanfare.1.gz" /usr/share/man/man1/fanfare.1.gz
give "$share/fanfare.bash" /usr/share/bash-completion/completions/fanfare
give "$share/fanfare.zsh" /usr/share/zsh/site-functions/_fanfare
give "$share/fanfare.fish" /usr/share/fish/vendor_completions.d/fanfare.fish
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	# Whether it starts with the machine is the distribution's policy: see systemd.preset(5).
	[ "$1" -gt 1 ] || systemctl preset fanfare-agent.service || :
fi
