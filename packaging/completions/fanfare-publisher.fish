complete -c fanfare-publisher -s c -l config -d 'Read FILE instead of the default configuration; may be repeated, later ones win' -r -F
complete -c fanfare-publisher -l set -d 'Set one configuration key, such as publisher_port=9000' -r
complete -c fanfare-publisher -s l -l log-level -d 'What to log: off, error, warn, info, debug, trace, or a filter as in RUST_LOG' -r
complete -c fanfare-publisher -s h -l help -d 'Print help'
complete -c fanfare-publisher -s V -l version -d 'Print version'
