# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_fanfare_global_optspecs
    string join \n h/help V/version
end

function __fish_fanfare_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_fanfare_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_fanfare_using_subcommand
    set -l cmd (__fish_fanfare_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c fanfare -n "__fish_fanfare_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c fanfare -n "__fish_fanfare_needs_command" -s V -l version -d 'Print version'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "status" -d 'Whether this node is in step, and why not'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "watch" -d 'Changes as they come, until Ctrl-C'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "get" -d 'Rows of this node\'s replica: the value of KEY, or all rows of TABLE'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "topics" -d 'The topics this node subscribes to; changes last until the agent starts again'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "resync" -d 'Has HANDLER, or every handler, start over with all rows'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "quarantine" -d 'Rows that handlers have given up on'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "log-level" -d 'Shows, or sets until the next start, what a daemon logs'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "top" -d 'The status of this node, again and again, with events a second'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "publisher" -d 'The publisher service of this host'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "check-config" -d 'Check configuration files and report all faults of them at once'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "keygen" -d 'Make a pair of keys and say what the other side must be told'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "pending" -d 'Show the keys that were refused because nobody has authorised them'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "authorise" -d 'Let the node with this key connect'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "publish" -d 'Hand events to the publisher service of this host and wait for its acknowledgement'
complete -c fanfare -n "__fish_fanfare_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand status" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand status" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand status" -l json -d 'The whole report as JSON'
complete -c fanfare -n "__fish_fanfare_using_subcommand status" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand watch" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand watch" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand watch" -l table -d 'Only this table; may be repeated' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand watch" -l topic -d 'Only this topic; may be repeated' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand watch" -l json -d 'A JSON object a line'
complete -c fanfare -n "__fish_fanfare_using_subcommand watch" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand get" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand get" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand get" -l json -d 'A JSON object a row'
complete -c fanfare -n "__fish_fanfare_using_subcommand get" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and not __fish_seen_subcommand_from list add remove help" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and not __fish_seen_subcommand_from list add remove help" -f -a "list" -d 'The topics and how many rows are on each'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and not __fish_seen_subcommand_from list add remove help" -f -a "add" -d 'Subscribe to TOPIC'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and not __fish_seen_subcommand_from list add remove help" -f -a "remove" -d 'Unsubscribe from TOPIC'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and not __fish_seen_subcommand_from list add remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from list" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from list" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from list" -l json -d 'A JSON object a topic'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from add" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from add" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from remove" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from remove" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from help" -f -a "list" -d 'The topics and how many rows are on each'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from help" -f -a "add" -d 'Subscribe to TOPIC'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Unsubscribe from TOPIC'
complete -c fanfare -n "__fish_fanfare_using_subcommand topics; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand resync" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand resync" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand resync" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -f -a "list" -d 'The rows, with the reasons'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -f -a "release" -d 'Give rows to their handler again'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from list" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from list" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from list" -l json -d 'A JSON object a row'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from release" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from release" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from release" -l table -d 'Only of this table' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from release" -l key -d 'Only this key' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from release" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from help" -f -a "list" -d 'The rows, with the reasons'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from help" -f -a "release" -d 'Give rows to their handler again'
complete -c fanfare -n "__fish_fanfare_using_subcommand quarantine; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand log-level" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand log-level" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand log-level" -l publisher -d 'Of the publisher service'
complete -c fanfare -n "__fish_fanfare_using_subcommand log-level" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand top" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand top" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand top" -l interval -d 'Time between two looks' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand top" -l count -d 'End after so many looks' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand top" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and not __fish_seen_subcommand_from status help" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and not __fish_seen_subcommand_from status help" -f -a "status" -d 'How it is: journal, workers, subscribers of each topic'
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and not __fish_seen_subcommand_from status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and __fish_seen_subcommand_from status" -l socket -d 'The daemon\'s control socket; by default the one in the configured run_dir' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and __fish_seen_subcommand_from status" -s c -l config -d 'Read FILE for run_dir instead of the default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and __fish_seen_subcommand_from status" -l json -d 'The whole report as JSON'
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and __fish_seen_subcommand_from help" -f -a "status" -d 'How it is: journal, workers, subscribers of each topic'
complete -c fanfare -n "__fish_fanfare_using_subcommand publisher; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand check-config" -l for -d 'Whose configuration it is; by default the publisher\'s where a file is called publisher.toml, else the agent\'s' -r -f -a "agent\t''
publisher\t''"
complete -c fanfare -n "__fish_fanfare_using_subcommand check-config" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand keygen" -l node -d 'The pair of the node of this name, NAME.key and NAME.key_secret' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand keygen" -l dir -d 'Where the files go; made if it is not there' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand keygen" -l publisher -d 'A publisher\'s pair, publisher.key and publisher.key_secret'
complete -c fanfare -n "__fish_fanfare_using_subcommand keygen" -l force -d 'Replace files that are there'
complete -c fanfare -n "__fish_fanfare_using_subcommand keygen" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand pending" -l pending -d 'The publisher\'s list' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand pending" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand authorise" -l dir -d 'The directory of nodes that may connect (authorized_keys)' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand authorise" -l pending -d 'The publisher\'s list' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand authorise" -l force -d 'Give a name that is there this key in place of its own'
complete -c fanfare -n "__fish_fanfare_using_subcommand authorise" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l table -d 'The table of the object' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l key -d 'The object\'s key within its table' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l value -d 'The object\'s new value, JSON in practice' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l topic -d 'Who gets it; by default everyone' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l event-version -d 'The object\'s version; an event older than what is known is refused' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l from -d 'Publish the events in FILE, one JSON object a line; - for standard input' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l socket -d 'The service\'s publisher_multiproc_socket; by default the configured one' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -s c -l config -d 'Read FILE instead of the publisher\'s default configuration; may be repeated' -r -F
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l timeout -d 'Give up when nothing is acknowledged for this long' -r
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -l delete -d 'The object is deleted'
complete -c fanfare -n "__fish_fanfare_using_subcommand publish" -s h -l help -d 'Print help'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "status" -d 'Whether this node is in step, and why not'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "watch" -d 'Changes as they come, until Ctrl-C'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "get" -d 'Rows of this node\'s replica: the value of KEY, or all rows of TABLE'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "topics" -d 'The topics this node subscribes to; changes last until the agent starts again'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "resync" -d 'Has HANDLER, or every handler, start over with all rows'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "quarantine" -d 'Rows that handlers have given up on'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "log-level" -d 'Shows, or sets until the next start, what a daemon logs'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "top" -d 'The status of this node, again and again, with events a second'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "publisher" -d 'The publisher service of this host'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "check-config" -d 'Check configuration files and report all faults of them at once'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "keygen" -d 'Make a pair of keys and say what the other side must be told'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "pending" -d 'Show the keys that were refused because nobody has authorised them'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "authorise" -d 'Let the node with this key connect'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "publish" -d 'Hand events to the publisher service of this host and wait for its acknowledgement'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and not __fish_seen_subcommand_from status watch get topics resync quarantine log-level top publisher check-config keygen pending authorise publish help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and __fish_seen_subcommand_from topics" -f -a "list" -d 'The topics and how many rows are on each'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and __fish_seen_subcommand_from topics" -f -a "add" -d 'Subscribe to TOPIC'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and __fish_seen_subcommand_from topics" -f -a "remove" -d 'Unsubscribe from TOPIC'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and __fish_seen_subcommand_from quarantine" -f -a "list" -d 'The rows, with the reasons'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and __fish_seen_subcommand_from quarantine" -f -a "release" -d 'Give rows to their handler again'
complete -c fanfare -n "__fish_fanfare_using_subcommand help; and __fish_seen_subcommand_from publisher" -f -a "status" -d 'How it is: journal, workers, subscribers of each topic'
