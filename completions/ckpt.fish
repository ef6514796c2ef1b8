# fish completion for ckpt; `ckpt completions fish` prints it
function __ckpt_complete
    set -l before (commandline -xpc 2>/dev/null; or commandline -opc)
    set -l current (commandline -ct)
    set -l all (commandline -x 2>/dev/null; or commandline -o)
    set -l index (count $before)
    # what follows the cursor may name the file
    set -l after
    if test (count $all) -gt (math $index + 1)
        set after $all[(math $index + 2)..-1]
    end
    set -l lines ($before[1] complete fish $index -- $before "$current" $after 2>/dev/null)
    switch "$lines[1]"
        case files
            set -l option (string match -r -- '^--[^=]*=' $current)
            __fish_complete_path (string replace -r -- '^--[^=]*=' '' $current) | string replace -r -- '^' "$option"
        case directories
            __fish_complete_directories $current
        case '*'
            printf '%s\n' $lines[2..-1]
    end
end
complete -c ckpt -e
complete -c ckpt -f -k -a '(__ckpt_complete)'
