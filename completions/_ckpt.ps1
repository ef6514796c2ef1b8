
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'ckpt' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'ckpt'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'ckpt' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('ls', 'ls', [CompletionResultType]::ParameterValue, 'List tensors and other values: names, dtypes, shapes, sizes')
            [CompletionResult]::new('strip-prefix', 'strip-prefix', [CompletionResultType]::ParameterValue, 'Remove a prefix from the names in every state dict; change nothing else')
            [CompletionResult]::new('rename', 'rename', [CompletionResultType]::ParameterValue, 'Rename tensors by prefix, pattern or table')
            [CompletionResult]::new('edit', 'edit', [CompletionResultType]::ParameterValue, 'Set, delete and move values and subtrees; change nothing else')
            [CompletionResult]::new('repair', 'repair', [CompletionResultType]::ParameterValue, 'Salvage a damaged file; finish or undo an interrupted edit in place')
            [CompletionResult]::new('convert', 'convert', [CompletionResultType]::ParameterValue, 'Convert between torch''s containers, safetensors and npz')
            [CompletionResult]::new('average', 'average', [CompletionResultType]::ParameterValue, 'Average the weights of checkpoints: mean, weighted mean, moving average')
            [CompletionResult]::new('diff', 'diff', [CompletionResultType]::ParameterValue, 'Compare two checkpoints: what changed, where, by how much')
            [CompletionResult]::new('extract', 'extract', [CompletionResultType]::ParameterValue, 'Extract tensors, values or subtrees: print them, or write .npy .npz .json .csv .bin .png .safetensors .pt')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check that a file is safe to load and intact: globals, weights_only, checksums, bounds')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print a shell''s completion script')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Print the manual page, or write all pages into a directory')
            break
        }
        'ckpt;ls' {
            [CompletionResult]::new('--depth', '--depth', [CompletionResultType]::ParameterName, 'Fold what lies deeper than N levels of the tree')
            [CompletionResult]::new('--sort', '--sort', [CompletionResultType]::ParameterName, 'Sort order')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'Start at this element (`.` is the top); names are shown relative to it')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip matching names, values as well as tensors; repeatable')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--tree', '--tree', [CompletionResultType]::ParameterName, 'Roll up by module, with parameter counts and class names')
            [CompletionResult]::new('--names', '--names', [CompletionResultType]::ParameterName, 'Print only names, one per line')
            [CompletionResult]::new('--tensors', '--tensors', [CompletionResultType]::ParameterName, 'Show only tensors')
            [CompletionResult]::new('--values', '--values', [CompletionResultType]::ParameterName, 'Show only non-tensor values')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Reverse the sort order')
            [CompletionResult]::new('--reverse', '--reverse', [CompletionResultType]::ParameterName, 'Reverse the sort order')
            [CompletionResult]::new('--stats', '--stats', [CompletionResultType]::ParameterName, 'Read the data: min, max, mean, std, zeros, NaN, Inf')
            [CompletionResult]::new('--hash', '--hash', [CompletionResultType]::ParameterName, 'Read the data: sha256 of each tensor''s elements (contiguous, little-endian)')
            [CompletionResult]::new('-R', '-R ', [CompletionResultType]::ParameterName, 'List every checkpoint under each directory, and in each archive')
            [CompletionResult]::new('--recursive', '--recursive', [CompletionResultType]::ParameterName, 'List every checkpoint under each directory, and in each archive')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;strip-prefix' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to write; `-` is standard output')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to write; `-` is standard output')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'Start at this element (`.` is the top); names are shown relative to it')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip matching names, values as well as tensors; repeatable')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--anywhere', '--anywhere', [CompletionResultType]::ParameterName, 'Remove it inside names too, wherever an element begins with it (`model._orig_mod.fc` becomes `model.fc`)')
            [CompletionResult]::new('--in-place', '--in-place', [CompletionResultType]::ParameterName, 'Edit the file itself: append a new pickle and directory to a zip, replace any other file as a whole')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Overwrite an existing OUTPUT')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Show old -> new and write nothing')
            [CompletionResult]::new('--if-present', '--if-present', [CompletionResultType]::ParameterName, 'Ignore steps and table rows that match nothing; if none match, write the input unchanged')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;rename' {
            [CompletionResult]::new('--add-prefix', '--add-prefix', [CompletionResultType]::ParameterName, 'Put PREFIX before every name')
            [CompletionResult]::new('--strip-prefix', '--strip-prefix', [CompletionResultType]::ParameterName, 'Remove PREFIX where a name begins with it')
            [CompletionResult]::new('--regex', '--regex', [CompletionResultType]::ParameterName, 'Rewrite by a regular expression: $1 in TO is what its first group matched; flags g (all matches) and i (any case)')
            [CompletionResult]::new('--map', '--map', [CompletionResultType]::ParameterName, 'Rename by a table: two columns (old, new), or a JSON object; `-` is standard input')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to write; `-` is standard output')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to write; `-` is standard output')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'Start at this element (`.` is the top); names are shown relative to it')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip matching names, values as well as tensors; repeatable')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--in-place', '--in-place', [CompletionResultType]::ParameterName, 'Edit the file itself: append a new pickle and directory to a zip, replace any other file as a whole')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Overwrite an existing OUTPUT')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Show old -> new and write nothing')
            [CompletionResult]::new('--if-present', '--if-present', [CompletionResultType]::ParameterName, 'Ignore steps and table rows that match nothing; if none match, write the input unchanged')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;edit' {
            [CompletionResult]::new('--set', '--set', [CompletionResultType]::ParameterName, 'Give NAME a value, a Python literal: None, True, 3, 1e-4, inf, ''text'' in quotes, b''bytes'', a list, tuple, dict, set')
            [CompletionResult]::new('--delete', '--delete', [CompletionResultType]::ParameterName, 'Remove NAME and all below it')
            [CompletionResult]::new('--move', '--move', [CompletionResultType]::ParameterName, 'Give OLD the name NEW; `.=KEY` puts everything below KEY, `KEY=.` leaves only what is below KEY')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to write, in the format of INPUT; `-` is standard output')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to write, in the format of INPUT; `-` is standard output')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--in-place', '--in-place', [CompletionResultType]::ParameterName, 'Edit the file itself: append a new pickle and directory to a zip, replace any other file as a whole')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Overwrite an existing OUTPUT')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Show old -> new and write nothing')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;repair' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to write; `-` is standard output')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to write; `-` is standard output')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--in-place', '--in-place', [CompletionResultType]::ParameterName, 'Repair the file itself')
            [CompletionResult]::new('--keep-damaged', '--keep-damaged', [CompletionResultType]::ParameterName, 'Keep tensors that may be damaged, and name them, instead of leaving them out')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Replace an OUTPUT that exists')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;convert' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to write, as an option instead of the second argument')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to write, as an option instead of the second argument')
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'The format to write; the default follows OUTPUT''s extension')
            [CompletionResult]::new('--drop', '--drop', [CompletionResultType]::ParameterName, 'Leave out an element and everything below it; a name or a glob; repeatable. An element of a list or tuple leaves None where others follow it')
            [CompletionResult]::new('--dtype', '--dtype', [CompletionResultType]::ParameterName, 'Cast floating weights to float16, bfloat16, float32 or float64 (or half, fp16, bf16, float, double, ...), rounding to nearest even')
            [CompletionResult]::new('--device', '--device', [CompletionResultType]::ParameterName, 'Device to record for storages: cpu, cuda, cuda:1, mps, ... (torch formats)')
            [CompletionResult]::new('--shared', '--shared', [CompletionResultType]::ParameterName, 'Tensors that share memory, in formats without sharing [default: duplicate; aliases in the __metadata__ of a safetensors input stay aliases]')
            [CompletionResult]::new('--set-metadata', '--set-metadata', [CompletionResultType]::ParameterName, 'Add an entry to __metadata__ or replace one (safetensors); repeatable')
            [CompletionResult]::new('--save-values', '--save-values', [CompletionResultType]::ParameterName, 'Write the values that a weights-only format leaves out to a JSON file')
            [CompletionResult]::new('--max-shard-size', '--max-shard-size', [CompletionResultType]::ParameterName, 'Write shards of at most SIZE bytes (5GB, 500MB, 2GiB) and an index into the directory OUTPUT')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'Start at this element (`.` is the top); names are shown relative to it')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip matching names, values as well as tensors; repeatable')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--state-dict', '--state-dict', [CompletionResultType]::ParameterName, 'Reduce a module, a TorchScript archive or a checkpoint to a plain state dict; of wrapper tensors (torchao, quanto, DTensor shards) the parts are written under their own names (0.weight._data)')
            [CompletionResult]::new('--safe', '--safe', [CompletionResultType]::ParameterName, 'Keep the whole object and make it open with torch.load(weights_only=True): objects of other classes become the dicts, lists, numbers or strings that they hold (torch formats)')
            [CompletionResult]::new('--compact', '--compact', [CompletionResultType]::ParameterName, 'Write only the parts of storages that tensors use (torch formats)')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Replace existing files')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;average' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to write; `-` for standard output')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to write; `-` for standard output')
            [CompletionResult]::new('--weights', '--weights', [CompletionResultType]::ParameterName, 'How much each input counts, in their order; the numbers are divided by their sum, so 7,3 is 0.7,0.3')
            [CompletionResult]::new('--ema', '--ema', [CompletionResultType]::ParameterName, 'Exponential moving average in the order of the inputs: it begins with the first, and each one after it makes it DECAY * average + (1 - DECAY) * input')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The element that holds the weights, in every input (`.` is the top); without it, the one model of each input')
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'The format to write; the default follows OUTPUT''s extension')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Replace an existing file')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;diff' {
            [CompletionResult]::new('--rtol', '--rtol', [CompletionResultType]::ParameterName, 'Relative tolerance: |a - b| <= ATOL + RTOL * |b| is equal, as in torch.allclose')
            [CompletionResult]::new('--atol', '--atol', [CompletionResultType]::ParameterName, 'Absolute tolerance')
            [CompletionResult]::new('--ignore', '--ignore', [CompletionResultType]::ParameterName, 'Ignore differences in these properties, separated by commas (`values`: elements and other values)')
            [CompletionResult]::new('--strip-prefix', '--strip-prefix', [CompletionResultType]::ParameterName, 'Strip this prefix from the names that have it: in both files, or in one only if more names match that way')
            [CompletionResult]::new('--root-a', '--root-a', [CompletionResultType]::ParameterName, 'Compare only the part of A under NAME (`.` is the top); names are relative to it')
            [CompletionResult]::new('--root-b', '--root-b', [CompletionResultType]::ParameterName, 'Compare only the part of B under NAME')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip matching names; repeatable')
            [CompletionResult]::new('--sort', '--sort', [CompletionResultType]::ParameterName, 'Sort order of changed tensors')
            [CompletionResult]::new('--top', '--top', [CompletionResultType]::ParameterName, 'Show only the first N entries of each section')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--structure', '--structure', [CompletionResultType]::ParameterName, 'Compare names, shapes, dtypes and other values only; read no tensor data')
            [CompletionResult]::new('--nan-differs', '--nan-differs', [CompletionResultType]::ParameterName, 'Treat NaN as different from NaN')
            [CompletionResult]::new('--bitwise', '--bitwise', [CompletionResultType]::ParameterName, 'Compare bits: 0.0 differs from -0.0, and a NaN from other NaNs')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Print a one-line summary')
            [CompletionResult]::new('--summary', '--summary', [CompletionResultType]::ParameterName, 'Print a one-line summary')
            [CompletionResult]::new('--load', '--load', [CompletionResultType]::ParameterName, 'Report what load_state_dict(strict=False) of A into B would: keys and shapes of the weights only')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;extract' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to write: FILE.npy .npz .json .csv .bin .png .safetensors .pt, a directory, or `-`')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to write: FILE.npy .npz .json .csv .bin .png .safetensors .pt, a directory, or `-`')
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Output format (default: from OUTPUT''s extension); for a directory, the format of each file')
            [CompletionResult]::new('--slice', '--slice', [CompletionResultType]::ParameterName, 'Take a part of each tensor, in Python''s syntax: `0:2,:`, `-1`, `...,::-1`')
            [CompletionResult]::new('--dtype', '--dtype', [CompletionResultType]::ParameterName, 'Cast floating-point tensors to float16, bfloat16, float32 or float64')
            [CompletionResult]::new('--range', '--range', [CompletionResultType]::ParameterName, 'Values mapped to black and white (default: minimum and maximum)')
            [CompletionResult]::new('--scale', '--scale', [CompletionResultType]::ParameterName, 'Draw each value as N x N pixels')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'Start at this element (`.` is the top); names are shown relative to it')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip matching names, values as well as tensors; repeatable')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Overwrite existing files')
            [CompletionResult]::new('--full', '--full', [CompletionResultType]::ParameterName, 'Print every element')
            [CompletionResult]::new('--diverging', '--diverging', [CompletionResultType]::ParameterName, 'Blue below zero (or below the middle of --range), red above')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;check' {
            [CompletionResult]::new('--fail-on', '--fail-on', [CompletionResultType]::ParameterName, 'Exit with status 1 if any finding is at least this severe')
            [CompletionResult]::new('--require', '--require', [CompletionResultType]::ParameterName, 'Report as an error what this asks for and a file is not')
            [CompletionResult]::new('--allow', '--allow', [CompletionResultType]::ParameterName, 'Treat matching unknown globals as known (`*` also matches dots), and a dangerous one if this is its exact name; repeatable')
            [CompletionResult]::new('--allow-from', '--allow-from', [CompletionResultType]::ParameterName, 'Read such globs from a file, one per line (`#` starts a comment); they need not match anything')
            [CompletionResult]::new('--write-allow', '--write-allow', [CompletionResultType]::ParameterName, 'Write the unknown globals of all inputs to FILE, to review and use with --allow-from; never dangerous ones')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Output format')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--max-objects', '--max-objects', [CompletionResultType]::ParameterName, 'Maximum objects a compressed pickle may create beyond what its size accounts for')
            [CompletionResult]::new('--max-depth', '--max-depth', [CompletionResultType]::ParameterName, 'Maximum nesting depth of objects')
            [CompletionResult]::new('--max-entries', '--max-entries', [CompletionResultType]::ParameterName, 'Maximum tensors and values to list')
            [CompletionResult]::new('--max-expanded-bytes', '--max-expanded-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes of compressed input or standard input once expanded')
            [CompletionResult]::new('--max-read-bytes', '--max-read-bytes', [CompletionResultType]::ParameterName, 'Maximum bytes to read from tensors whose declared size exceeds their stored data')
            [CompletionResult]::new('-R', '-R ', [CompletionResultType]::ParameterName, 'Check directories recursively; print one line per file that is, or contains, a checkpoint. What is named like one (`.pt`, `.bin`, `.tar.gz`, …) and is none, a dangling link, a pipe, a directory that cannot be read is an error')
            [CompletionResult]::new('--recursive', '--recursive', [CompletionResultType]::ParameterName, 'Check directories recursively; print one line per file that is, or contains, a checkpoint. What is named like one (`.pt`, `.bin`, `.tar.gz`, …) and is none, a dangling link, a pipe, a directory that cannot be read is an error')
            [CompletionResult]::new('--numerics', '--numerics', [CompletionResultType]::ParameterName, 'Also look for NaN, infinities, zeros and subnormal numbers in the tensors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'With --recursive, name the files that were left aside')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'With --recursive, name the files that were left aside')
            [CompletionResult]::new('--no-data', '--no-data', [CompletionResultType]::ParameterName, 'Read no tensor data: no checksums')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Overwrite the file of --write-allow')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Short for --format json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Suppress notes and progress on standard error')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'ckpt;completions' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'ckpt;man' {
            [CompletionResult]::new('--dir', '--dir', [CompletionResultType]::ParameterName, 'Write all pages into this directory')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
