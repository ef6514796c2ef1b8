# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ckpt_global_optspecs
    string join \n h/help V/version
end

function __fish_ckpt_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ckpt_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ckpt_using_subcommand
    set -l cmd (__fish_ckpt_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ckpt -n "__fish_ckpt_needs_command" -s h -l help -d 'Print help'
complete -c ckpt -n "__fish_ckpt_needs_command" -s V -l version -d 'Print version'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "ls" -d 'List tensors and other values: names, dtypes, shapes, sizes'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "strip-prefix" -d 'Remove a prefix from the names in every state dict; change nothing else'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "rename" -d 'Rename tensors by prefix, pattern or table'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "edit" -d 'Set, delete and move values and subtrees; change nothing else'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "repair" -d 'Salvage a damaged file; finish or undo an interrupted edit in place'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "convert" -d 'Convert between torch\'s containers, safetensors and npz'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "merge" -d 'Merge checkpoints into one: under a key each, or the parts of a state dict'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "average" -d 'Average the weights of checkpoints: mean, weighted mean, moving average'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "diff" -d 'Compare two checkpoints: what changed, where, by how much'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "digest" -d 'Print a digest of the weights that is the same in every format, like sha256sum; verify lists of them'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "extract" -d 'Extract tensors, values or subtrees: print them, or write .npy .npz .json .csv .bin .png .safetensors .pt'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "check" -d 'Check that a file is safe to load and intact: globals, weights_only, checksums, bounds'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "schema" -d 'Print the JSON schema of a report, or list the schemas'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c ckpt -n "__fish_ckpt_needs_command" -f -a "man" -d 'Print the manual page, or write all pages into a directory'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l depth -d 'Fold what lies deeper than N levels of the tree' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l sort -d 'Sort order' -r -f -a "name\t'Byte order of the names'
size\t'Largest tensors first'
file\t'File order'"
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l files-from -d 'Read more INPUTs from a file, one per line; `-` is standard input' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l shard -d 'Take only the I-th of every N files (1/N to N/N), in the order of their paths, files named like checkpoints first: N jobs that see the same files take each file once' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l root -d 'Start at this element (`.` is the top); names are shown relative to it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l include -d 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l exclude -d 'Skip matching names, values as well as tensors; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l tree -d 'Roll up by module, with parameter counts and class names'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l names -d 'Print only names, one per line'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l tensors -d 'Show only tensors'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l values -d 'Show only non-tensor values'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -s r -l reverse -d 'Reverse the sort order'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l stats -d 'Read the data: min, max, mean, std, zeros, NaN, Inf'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l hash -d 'Read the data: sha256 of each tensor\'s elements (contiguous, little-endian)'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -s R -l recursive -d 'List every checkpoint under each directory, and in each archive'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -s 0 -l null -d 'Names in LIST end with a NUL, as `find -print0` writes them'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -s o -l output -d 'Where to write; `-` is standard output' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l root -d 'Start at this element (`.` is the top); names are shown relative to it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l include -d 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l exclude -d 'Skip matching names, values as well as tensors; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l anywhere -d 'Remove it inside names too, wherever an element begins with it (`model._orig_mod.fc` becomes `model.fc`)'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l in-place -d 'Edit the file itself: append what changes to a zip, write a safetensors header that fits over the old one, replace any other file as a whole'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l force -d 'Overwrite an existing OUTPUT'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l dry-run -d 'Show old -> new and write nothing'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l if-present -d 'Ignore steps and table rows that match nothing; if none match, write the input unchanged'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand strip-prefix" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l add-prefix -d 'Put PREFIX before every name' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l strip-prefix -d 'Remove PREFIX where a name begins with it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l regex -d 'Rewrite by a regular expression: $1 in TO is what its first group matched; flags g (all matches) and i (any case)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l map -d 'Rename by a table: two columns (old, new), or a JSON object; `-` is standard input' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -s o -l output -d 'Where to write; `-` is standard output' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l root -d 'Start at this element (`.` is the top); names are shown relative to it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l include -d 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l exclude -d 'Skip matching names, values as well as tensors; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l in-place -d 'Edit the file itself: append what changes to a zip, write a safetensors header that fits over the old one, replace any other file as a whole'
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l force -d 'Overwrite an existing OUTPUT'
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l dry-run -d 'Show old -> new and write nothing'
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l if-present -d 'Ignore steps and table rows that match nothing; if none match, write the input unchanged'
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand rename" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l set -d 'Give NAME a value, a Python literal: None, True, 3, 1e-4, inf, \'text\' in quotes, b\'bytes\', a list, tuple, dict, set' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l set-tensor -d 'Give the tensor NAME the elements of FILE.npy, of its dtype and shape' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l delete -d 'Remove NAME and all below it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l move -d 'Give OLD the name NEW; `.=KEY` puts everything below KEY, `KEY=.` leaves only what is below KEY' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l set-metadata -d 'Set an entry of a safetensors file\'s `__metadata__`, which holds text' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -s o -l output -d 'Where to write; `-` is standard output' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l force-shape -d 'Let --set-tensor give a tensor the shape of FILE.npy'
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l in-place -d 'Edit the file itself: append what changes to a zip, write a safetensors header that fits over the old one, replace any other file as a whole'
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l force -d 'Overwrite an existing OUTPUT'
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l dry-run -d 'Show old -> new and write nothing'
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand edit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -s o -l output -d 'Where to write; `-` is standard output' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l in-place -d 'Repair the file itself'
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l keep-damaged -d 'Keep tensors that may be damaged, and name them, instead of leaving them out'
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l force -d 'Replace an OUTPUT that exists'
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand repair" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -s o -l output -d 'Where to write, as an option instead of the second argument' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l to -d 'The format to write; the default follows OUTPUT\'s extension' -r -f -a "torch\t'torch\'s zip container (torch 1.6 and newer), every kind of object kept'
torch-legacy\t'The stream that torch 1.5 and older read'
safetensors\t'Tensors by name'
npz\t'Arrays by name, for numpy'"
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l drop -d 'Leave out an element and everything below it; a name or a glob; repeatable. An element of a list or tuple leaves None where others follow it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l dtype -d 'Cast floating weights to float16, bfloat16, float32 or float64 (or half, fp16, bf16, float, double, ...), rounding to nearest even' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l device -d 'Device to record for storages: cpu, cuda, cuda:1, mps, ... (torch formats)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l shared -d 'Tensors that share memory, in formats without sharing [default: duplicate; aliases in the __metadata__ of a safetensors input stay aliases]' -r -f -a "duplicate\t'Write every tensor in full'
drop\t'Write equal views once and record the other names as aliases in __metadata__'
error\t'Refuse'"
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l set-metadata -d 'Add an entry to __metadata__ or replace one (safetensors); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l save-values -d 'Write the values that a weights-only format leaves out to a JSON file' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l max-shard-size -d 'Write shards of at most SIZE bytes (5GB, 500MB, 2GiB) and an index into the directory OUTPUT' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l shard -d 'Write only the I-th of every N shards (1/N to N/N), as one of N jobs that may run at the same time, in any order and on any machine; --index-only completes OUTPUT. With --force an index that is there goes' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l expect-digest -d 'Write nothing unless this is the digest of INPUT\'s weights, as `ckpt digest` prints it with the same --root, --include and --exclude' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l root -d 'Start at this element (`.` is the top); names are shown relative to it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l include -d 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l exclude -d 'Skip matching names, values as well as tensors; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l state-dict -d 'Reduce a module, a TorchScript archive or a checkpoint to a plain state dict; of wrapper tensors (torchao, quanto, DTensor shards) the parts are written under their own names (0.weight._data)'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l safe -d 'Keep the whole object and make it open with torch.load(weights_only=True): objects of other classes become the dicts, lists, numbers or strings that they hold (torch formats)'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l compact -d 'Write only the parts of storages that tensors use (torch formats)'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l index-only -d 'Write only the index, last: every shard must be there with the size, the header and the elements that INPUT and these options give (of tensors of more than 64 KiB a sample is compared)'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l force -d 'Replace existing files, and remove shards of another number'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -s o -l output -d 'Where to write: a file, `-` for standard output, with --max-shard-size a directory' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l to -d 'The format to write; the default follows OUTPUT\'s extension' -r -f -a "torch\t'torch\'s zip container (torch 1.6 and newer), every kind of object kept'
torch-legacy\t'The stream that torch 1.5 and older read'
safetensors\t'Tensors by name'
npz\t'Arrays by name, for numpy'"
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l on-conflict -d 'What to do with a name that several inputs have, for inputs without keys [default: refuse]' -r -f -a "first\t'Keep the first input\'s'
last\t'Keep the last input\'s, in the place of the first'
equal\t'Keep one where all are equal bit by bit, else refuse'"
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l root -d 'Start at this element of every input (`.` is the top): the object that its KEY gets, or the one that holds the weights' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l include -d 'Write only matching names: a name, an element with everything below it, or a glob; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l exclude -d 'Skip matching names, values as well as tensors; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l drop -d 'Leave out an element and everything below it; a name or a glob; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l shared -d 'Tensors that share memory, in formats without sharing [default: duplicate; aliases in the __metadata__ of a safetensors input stay aliases]' -r -f -a "duplicate\t'Write every tensor in full'
drop\t'Write equal views once and record the other names as aliases in __metadata__'
error\t'Refuse'"
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l max-shard-size -d 'Write shards of at most SIZE bytes (5GB, 500MB, 2GiB) and an index into the directory OUTPUT' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l force -d 'Replace existing files'
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand merge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -s o -l output -d 'Where to write; `-` for standard output' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l weights -d 'How much each input counts, in their order; the numbers are divided by their sum, so 7,3 is 0.7,0.3' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l ema -d 'Exponential moving average in the order of the inputs: it begins with the first, and each one after it makes it DECAY * average + (1 - DECAY) * input' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l root -d 'The element that holds the weights, in every input (`.` is the top); without it, the one model of each input' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l to -d 'The format to write; the default follows OUTPUT\'s extension' -r -f -a "torch\t'torch\'s zip container (torch 1.6 and newer), every kind of object kept'
torch-legacy\t'The stream that torch 1.5 and older read'
safetensors\t'Tensors by name'
npz\t'Arrays by name, for numpy'"
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l force -d 'Replace an existing file'
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand average" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l rtol -d 'Relative tolerance: |a - b| <= ATOL + RTOL * |b| is equal, as in torch.allclose' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l atol -d 'Absolute tolerance' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l ignore -d 'Ignore differences in these properties, separated by commas (`values`: elements and other values)' -r -f -a "device\t'Device'
requires_grad\t'requires_grad flag'
dtype\t'Data type; elements are still compared as numbers'
values\t'Elements of tensors, and other values of the same name'"
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l strip-prefix -d 'Strip this prefix from the names that have it: in both files, or in one only if more names match that way' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l root-a -d 'Compare only the part of A under NAME (`.` is the top); names are relative to it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l root-b -d 'Compare only the part of B under NAME' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l include -d 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l exclude -d 'Skip matching names; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l sort -d 'Sort order of changed tensors' -r -f -a "file\t'As they stand in the first file'
change\t'Largest relative change first; a changed shape is larger than any'"
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l top -d 'Show only the first N entries of each section' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l structure -d 'Compare names, shapes, dtypes and other values only; read no tensor data'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l nan-differs -d 'Treat NaN as different from NaN'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l bitwise -d 'Compare bits: 0.0 differs from -0.0, and a NaN from other NaNs'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -s s -l summary -d 'Print a one-line summary'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l load -d 'Report what load_state_dict(strict=False) of A into B would: keys and shapes of the weights only'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -s c -l check -d 'Verify the digests in lists, as `sha256sum -c` does; `-`, or no LIST, is standard input. Give the same --all, --root, --include and --exclude as when the list was made' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l files-from -d 'Read more INPUTs from a file, one per line; `-` is standard input' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l shard -d 'Take only the I-th of every N files (1/N to N/N), in the order of their paths, files named like checkpoints first: N jobs that see the same files take each file once' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l root -d 'Start at this element (`.` is the top); names are shown relative to it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l include -d 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l exclude -d 'Skip matching names, values as well as tensors; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l strict -d 'With --check, exit with status 2 if a line is no line of a list'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l ignore-missing -d 'With --check, pass over files that are not there'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l all -d 'Take in every tensor and value, not the weights alone'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -s R -l recursive -d 'Take every checkpoint under each directory, and in each archive'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -s 0 -l null -d 'Names in LIST end with a NUL, as `find -print0` writes them'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand digest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -s o -l output -d 'Where to write: FILE.npy .npz .json .csv .bin .png .safetensors .pt, a directory, or `-`' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l to -d 'Output format (default: from OUTPUT\'s extension); for a directory, the format of each file' -r -f -a "npy\t'One array of numpy\'s'
npz\t'Arrays by name, for numpy'
json\t'Lists in lists, values too'
csv\t'A table of one or two dimensions'
bin\t'The elements\' bytes, little-endian'
png\t'A picture'
safetensors\t'Tensors by name'
torch\t'torch\'s zip container (torch 1.6 and newer), every kind of object kept'"
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l slice -d 'Take a part of each tensor, in Python\'s syntax: `0:2,:`, `-1`, `...,::-1`' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l dtype -d 'Cast floating-point tensors to float16, bfloat16, float32 or float64' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l range -d 'Values mapped to black and white (default: minimum and maximum)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l scale -d 'Draw each value as N x N pixels' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l root -d 'Start at this element (`.` is the top); names are shown relative to it' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l include -d 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l exclude -d 'Skip matching names, values as well as tensors; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'"
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l force -d 'Overwrite existing files'
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l full -d 'Print every element'
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l diverging -d 'Blue below zero (or below the middle of --range), red above'
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand extract" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l fail-on -d 'Exit with status 1 if any finding is at least this severe' -r -f -a "info\t'Worth knowing'
warning\t'Unusual: have a look'
error\t'Something is broken or missing'
danger\t'Loading it would run code, or do what only an attack needs'"
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l require -d 'Report as an error what this asks for and a file is not' -r -f -a "weights-only\t'torch.load(weights_only=True) opens it'"
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l files-from -d 'Read more INPUTs from a file, one per line; `-` is standard input' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l shard -d 'Take only the I-th of every N files (1/N to N/N), in the order of their paths, files named like checkpoints first: N jobs that see the same files take each file once' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l allow -d 'Treat matching unknown globals as known (`*` also matches dots), and a dangerous one if this is its exact name; repeatable' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l allow-from -d 'Read such globs from a file, one per line (`#` starts a comment); they need not match anything' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l write-allow -d 'Write the unknown globals of all inputs to FILE, to review and use with --allow-from; never dangerous ones' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l color -d 'When to use colour' -r -f -a "auto\t'When standard output is a terminal and NO_COLOR is not set'
always\t'Always'
never\t'Never'"
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l max-objects -d 'Maximum objects a compressed pickle may create beyond what its size accounts for' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l max-depth -d 'Maximum nesting depth of objects' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l max-entries -d 'Maximum tensors and values to list' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l max-expanded-bytes -d 'Maximum bytes of compressed input or standard input once expanded' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l max-read-bytes -d 'Maximum bytes to read from tensors whose declared size exceeds their stored data' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l max-transfer -d 'Maximum size of all transfers from URLs, such as 100MB' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l tp-rule -d 'Read from FILE how tensors are cut among tensor-parallel ranks: lines of a glob over names and `replicate`, a dimension, or a dimension and the number of blocks cut each for itself (`0/2`)' -r
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l format -d 'Output format' -r -f -a "table\t'Human-readable'
json\t'One JSON object per input, one per line'
sarif\t'One SARIF 2.1.0 log of all inputs'"
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -s R -l recursive -d 'Check directories recursively; print one line per file that is, or contains, a checkpoint. What is named like one (`.pt`, `.bin`, `.tar.gz`, …) and is none, a dangling link, a pipe, a directory that cannot be read is an error'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l numerics -d 'Also look for NaN, infinities, zeros and subnormal numbers in the tensors'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -s v -l verbose -d 'With --recursive, name the files that were left aside'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l no-data -d 'Read no tensor data: no checksums, no search for pickles hidden in it'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -s 0 -l null -d 'Names in LIST end with a NUL, as `find -print0` writes them'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l force -d 'Overwrite the file of --write-allow'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -l json -d 'Short for --format json'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -s q -l quiet -d 'Suppress notes and progress on standard error'
complete -c ckpt -n "__fish_ckpt_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ckpt -n "__fish_ckpt_using_subcommand schema" -s h -l help -d 'Print help'
complete -c ckpt -n "__fish_ckpt_using_subcommand completions" -s h -l help -d 'Print help'
complete -c ckpt -n "__fish_ckpt_using_subcommand man" -l dir -d 'Write all pages into this directory' -r -F
complete -c ckpt -n "__fish_ckpt_using_subcommand man" -s h -l help -d 'Print help'
