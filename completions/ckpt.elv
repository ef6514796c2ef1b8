
use builtin;
use str;

set edit:completion:arg-completer[ckpt] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'ckpt'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'ckpt'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
            cand ls 'List tensors and other values: names, dtypes, shapes, sizes'
            cand convert 'Convert between torch''s containers, safetensors and npz'
            cand diff 'Compare two checkpoints: what changed, where, by how much'
            cand completions 'Print a shell''s completion script'
            cand man 'Print the manual page, or write all pages into a directory'
        }
        &'ckpt;ls'= {
            cand --depth 'Fold what lies deeper than N levels of the tree'
            cand --sort 'In which order'
            cand --root 'Look only below the element of this name; names are then relative to it (`.` is the top)'
            cand --include 'Only names that match (`*` crosses dots); repeatable'
            cand --exclude 'Not the names that match; repeatable'
            cand --format 'How to write the result'
            cand --color 'When to use colour'
            cand --max-objects 'Objects that the pickles of a compressed file may make'
            cand --max-depth 'How deep objects may nest'
            cand --max-entries 'Tensors and values that may be listed'
            cand --max-expanded-bytes 'Bytes that compressed input or standard input may take once expanded'
            cand --max-read-bytes 'Bytes of one tensor that will be read when it is larger than its storage'
            cand --tree 'Roll up by module, with parameter counts and class names'
            cand --names 'Only names, one on each line'
            cand --tensors 'Only tensors'
            cand --values 'Only values that are no tensors'
            cand -r 'The other way round'
            cand --reverse 'The other way round'
            cand --stats 'Read the data: min, max, mean, std, zeros, NaN, Inf'
            cand --hash 'Read the data: sha256 of each tensor''s elements (contiguous, little-endian)'
            cand -R 'List every checkpoint below the directories'
            cand --recursive 'List every checkpoint below the directories'
            cand --json 'Short for --format json'
            cand -q 'No notes and no progress on standard error'
            cand --quiet 'No notes and no progress on standard error'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'ckpt;convert'= {
            cand --to 'The format to write; the default follows OUTPUT''s extension'
            cand --drop 'Leave out an element and everything below it; a name or a glob; repeatable'
            cand --dtype 'Cast floating tensors, rounding to nearest even'
            cand --device 'The device that storages are to be loaded on (torch formats)'
            cand --shared 'Tensors that share memory, in formats without sharing'
            cand --save-values 'Write the values that a weights-only format leaves out to a JSON file'
            cand --max-shard-size 'Write shards of at most SIZE bytes (5GB, 500MB, 2GiB) and an index into the directory OUTPUT'
            cand --root 'Look only below the element of this name; names are then relative to it (`.` is the top)'
            cand --include 'Only names that match (`*` crosses dots); repeatable'
            cand --exclude 'Not the names that match; repeatable'
            cand --format 'How to write the result'
            cand --color 'When to use colour'
            cand --max-objects 'Objects that the pickles of a compressed file may make'
            cand --max-depth 'How deep objects may nest'
            cand --max-entries 'Tensors and values that may be listed'
            cand --max-expanded-bytes 'Bytes that compressed input or standard input may take once expanded'
            cand --max-read-bytes 'Bytes of one tensor that will be read when it is larger than its storage'
            cand --state-dict 'Reduce a module, a TorchScript archive or a checkpoint to a plain state dict'
            cand --compact 'Write only the parts of storages that tensors use (torch formats)'
            cand --force 'Replace existing files'
            cand --json 'Short for --format json'
            cand -q 'No notes and no progress on standard error'
            cand --quiet 'No notes and no progress on standard error'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'ckpt;diff'= {
            cand --rtol 'Relative tolerance: |a - b| <= ATOL + RTOL * |b| is equal, as in torch.allclose'
            cand --atol 'Absolute tolerance'
            cand --ignore 'What does not count (`values`: elements and other values), separated by commas'
            cand --strip-prefix 'Take this prefix off the names that have it, on both sides'
            cand --root-a 'Of A only what is below the element of this name; names are then relative to it (`.` is the top)'
            cand --root-b 'The same for B'
            cand --include 'Only names that match (`*` crosses dots); repeatable'
            cand --exclude 'Not the names that match; repeatable'
            cand --sort 'In which order changed tensors are shown'
            cand --top 'Show only the first N entries of each section'
            cand --format 'How to write the result'
            cand --color 'When to use colour'
            cand --max-objects 'Objects that the pickles of a compressed file may make'
            cand --max-depth 'How deep objects may nest'
            cand --max-entries 'Tensors and values that may be listed'
            cand --max-expanded-bytes 'Bytes that compressed input or standard input may take once expanded'
            cand --max-read-bytes 'Bytes of one tensor that will be read when it is larger than its storage'
            cand --structure 'Names, shapes, dtypes and other values only: read no tensor''s data'
            cand --nan-differs 'NaN does not equal NaN'
            cand --bitwise 'Equal means the same bits: 0.0 differs from -0.0, a NaN from other NaNs'
            cand -s 'One line'
            cand --summary 'One line'
            cand --load 'What load_state_dict(strict=False) of A into B would say: keys and shapes of the weights only'
            cand --json 'Short for --format json'
            cand -q 'No notes and no progress on standard error'
            cand --quiet 'No notes and no progress on standard error'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'ckpt;completions'= {
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'ckpt;man'= {
            cand --dir 'Write all pages into this directory'
            cand -h 'Print help'
            cand --help 'Print help'
        }
    ]
    $completions[$command]
}
