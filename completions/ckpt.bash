# bash completion for ckpt; `ckpt completions bash` prints it
_ckpt() {
    local line=${COMP_LINE:0:COMP_POINT} words=() reply=() i rest mode IFS=$' \t\n'
    rest=$COMP_LINE
    # bash cuts words at = and :, which names, options and members of archives have
    for ((i = 0; i < COMP_CWORD; i++)); do
        if [[ $i == 0 || $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            words+=("${COMP_WORDS[i]}")
        else
            words[${#words[@]} - 1]+=${COMP_WORDS[i]}
        fi
        rest=${rest#"${COMP_WORDS[i]}"}
    done
    local before=${COMP_LINE%"$rest"}
    local current=${line:${#before}}
    if [[ $current == [[:space:]]* || -z $current && $before == *[[:space:]] ]]; then
        words+=("${current#"${current%%[![:space:]]*}"}")
    else
        words[${#words[@]} - 1]+=$current
    fi
    local index=$((${#words[@]} - 1))
    # what follows the cursor may name the file
    for ((i = COMP_CWORD + 1; i < ${#COMP_WORDS[@]}; i++)); do
        words+=("${COMP_WORDS[i]}")
    done
    while IFS= read -r i; do
        reply+=("$i")
    done < <("${words[0]/#\~\//$HOME/}" complete bash "$index" --breaks "$COMP_WORDBREAKS" -- "${words[@]}" 2>/dev/null)
    mode=${reply[0]-}
    COMPREPLY=()
    case $mode in
    # before bash 4 there is no compopt
    files) compopt -o default 2>/dev/null || COMPREPLY=($(compgen -f -- "${current##*[=:]}")) ;;
    directories) compopt -o dirnames 2>/dev/null || COMPREPLY=($(compgen -d -- "$current")) ;;
    words) COMPREPLY=("${reply[@]:1}") ;;
    open)
        COMPREPLY=("${reply[@]:1}")
        compopt -o nospace 2>/dev/null
        ;;
    esac
}
complete -o nosort -F _ckpt ckpt 2>/dev/null || complete -F _ckpt ckpt
