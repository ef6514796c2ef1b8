"""Write checkpoints laid out as public training scripts lay them out, and which part of each is the weights (torch 2.x).

usage: python generate_weights.py OUT_DIR

`expected.json` says for each file what the loading code of such a script takes: `root` (one set, with the names and
hashes of its tensors), or `choices` (whole sets of which somebody has to choose), or neither (nothing is weights).
"""
import collections
import hashlib
import io
import json
import os
import pickle
import random
import sys
import types

import numpy as np
import torch
import torch.nn as nn


def net(seed=0, bn=False):
    torch.manual_seed(seed)
    layers = [nn.Linear(2, 3), nn.BatchNorm1d(3)] if bn else [nn.Linear(2, 3)]
    return nn.Sequential(*layers, nn.Linear(3, 2))


def sd(seed=0, bn=False):
    return net(seed, bn).state_dict()


def adam(model=None, steps=1):
    model = model or net()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    return optimizer


def opt():
    return adam().state_dict()


def scheduler():
    return torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net().parameters(), lr=0.1), 2).state_dict()


def rng():
    return {"python": random.getstate(), "numpy": np.random.RandomState(0).get_state(), "torch": torch.get_rng_state(),
            "cuda": [torch.zeros(16, dtype=torch.uint8)]}


def fake(module, **classes):
    """Classes as if they were in a package that need not be installed."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
    for name, cls in classes.items():
        cls.__module__, cls.__qualname__, cls.__name__ = module, name, name
        setattr(sys.modules[module], name, cls)


def prefixed(prefix, state):
    return collections.OrderedDict((prefix + k, v) for k, v in state.items())


class Detection(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        self.model = net(seed)
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(2))


class CustomLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.ones(3, 2))


class DINOLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("center", torch.zeros(1, 4))


class ModelCheckpoint:
    pass


class Agent:
    def __init__(self):
        self.policy = net()
        self.gamma = 0.9


class NeuralNet:
    """skorch's, as far as pickling goes: what depends on a device is a file of torch.save inside."""
    def __init__(self):
        stream = io.BytesIO()
        torch.save({"module_": net(), "optimizer_": adam(), "criterion_": nn.NLLLoss(weight=torch.ones(2))}, stream)
        self.lr, self.__dict__["__cuda_dependent_attributes__"] = 0.01, stream.getvalue()


def persistent_class():
    """NVlabs' torch_utils/persistence.py, as far as pickling goes."""
    def _reconstruct_persistent_obj(meta):
        raise NotImplementedError
    fake("torch_utils.persistence", _reconstruct_persistent_obj=_reconstruct_persistent_obj)

    class Generator(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.synthesis = net(seed)

        def __reduce__(self):
            meta = dict(type="class", version=6, module_src="class Generator: pass", class_name="Generator",
                        state=self.__dict__)
            return _reconstruct_persistent_obj, (meta,), None
    return Generator


def megatron():
    return {"language_model": {"embedding": {"word_embeddings": nn.Embedding(4, 2).state_dict(),
                                             "position_embeddings": nn.Embedding(4, 2).state_dict()},
                               "encoder": sd()}}


def diffusers_ema():
    return {"decay": 0.999, "min_decay": 0.0, "optimization_step": 3, "update_after_step": 0, "use_ema_warmup": False,
            "inv_gamma": 1.0, "power": 2 / 3, "shadow_params": [p.detach().clone() for p in net(1).parameters()]}


def lightning(callbacks=None, hyper_parameters=None, state=None, **more):
    checkpoint = {"epoch": 1, "global_step": 8, "pytorch-lightning_version": "2.5.0",
                  "state_dict": state or prefixed("model.", sd()),
                  "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 2}}}},
                  "optimizer_states": [opt()], "lr_schedulers": [scheduler()], **more}
    if callbacks is not None:
        checkpoint["callbacks"] = callbacks
    if hyper_parameters is not None:
        checkpoint.update(hparams_name="kwargs", hyper_parameters=hyper_parameters)
    return checkpoint


MONITOR = ("ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
           "'train_time_interval': None}")


def monitor():
    return {"monitor": "val_loss", "best_model_score": torch.tensor(0.5), "best_model_path": "a.ckpt",
            "current_score": torch.tensor(0.5), "best_k_models": {"a.ckpt": torch.tensor(0.5)}, "kth_value": torch.tensor(0.5)}


def early_stopping():
    return {"wait_count": 0, "stopped_epoch": 0, "best_score": torch.tensor(0.5), "patience": 3}


def zoo():
    """Name -> (object, what the loading code takes): the path of one set, a list of paths, or None."""
    Generator = persistent_class()
    fake("ultralytics.nn.tasks", DetectionModel=Detection)
    fake("pytorch_lightning.callbacks.model_checkpoint", ModelCheckpoint=ModelCheckpoint)
    fake("losses", CustomLoss=CustomLoss, DINOLoss=DINOLoss)
    fake("agents", Agent=Agent)
    fake("skorch", NeuralNet=NeuralNet)
    shared = sd()
    best = torch.tensor([71.5])
    loss = torch.tensor(0.25, requires_grad=True) * 1
    loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    half = {k: v.half() for k, v in sd().items()}
    plain = {k: v for k, v in sd().items()}
    yield "state_dict", sd(bn=True), []
    yield "tutorial_loss", {"epoch": 5, "model_state_dict": sd(), "optimizer_state_dict": opt(), "loss": loss}, ["model_state_dict"]
    yield "tutorial_gan", {"modelA_state_dict": sd(), "modelB_state_dict": sd(1), "optimizerA_state_dict": opt(),
                           "optimizerB_state_dict": opt()}, [["modelA_state_dict"], ["modelB_state_dict"]]
    yield "imagenet", {"epoch": 3, "arch": "resnet18", "state_dict": prefixed("module.", sd(bn=True)), "best_acc1": best,
                       "optimizer": torch.optim.SGD(net().parameters(), lr=0.1).state_dict(), "scheduler": scheduler()}, ["state_dict"]
    yield "best_acc_only", {"state_dict": sd(), "best_acc1": best}, ["state_dict"]
    yield "lightning", lightning(), ["state_dict"]
    yield "lightning_monitor", lightning({MONITOR: monitor()}, {"lr": 0.1}), ["state_dict"]
    yield "lightning_early", lightning({"EarlyStopping{'monitor': 'val_loss'}": early_stopping(), MONITOR: monitor(),
                                        "LearningRateMonitor": {}}), ["state_dict"]
    yield "lightning_ema", lightning({"EMACallback": {"decay": 0.99, "ema_state_dict": sd(1)}}), ["state_dict"]
    yield "lightning_amp", lightning({}, MixedPrecision={"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0}), ["state_dict"]
    yield "lightning_modules", lightning({}, {"backbone": net(3), "loss_fn": loss_fn}), ["state_dict"]
    yield "sd_v1", {"epoch": 0, "state_dict": prefixed("model.diffusion_model.", sd()), "callbacks": {ModelCheckpoint: monitor()},
                    "optimizer_states": [opt()], "lr_schedulers": [], "pytorch-lightning_version": "1.4.2"}, ["state_dict"]
    yield "nanogpt", {"model": prefixed("_orig_mod.", sd()), "optimizer": opt(), "model_args": {"n_layer": 2}, "iter_num": 10,
                      "best_val_loss": torch.tensor(1.5), "config": {"lr": 0.1}}, ["model"]
    yield "dino", {"student": prefixed("module.backbone.", sd()), "teacher": prefixed("backbone.", sd(1)), "optimizer": opt(),
                   "epoch": 1, "args": {"a": 1}, "dino_loss": DINOLoss().state_dict()}, [["student"], ["teacher"]]
    yield "moco", {"epoch": 1, "arch": "resnet50", "optimizer": opt(),
                   "state_dict": collections.OrderedDict([*prefixed("module.encoder_q.", sd()).items(),
                                                          *prefixed("module.encoder_k.", sd(1)).items(),
                                                          ("module.queue", torch.ones(2, 4)),
                                                          ("module.queue_ptr", torch.zeros(1, dtype=torch.int64))])}, ["state_dict"]
    yield "megatron", {"args": {"tp": 1}, "checkpoint_version": 3.0, "iteration": 10, "model": megatron(),
                       "optimizer": {"optimizer": opt(), "grad_scaler": {"scale": torch.ones(1)},
                                     "fp32_from_fp16_params": [[torch.ones(3, 2)]]},
                       "rng_state": [rng()]}, ["model"]
    yield "megatron_virtual", {"iteration": 10, "model0": megatron(), "model1": megatron()}, [["model0"], ["model1"]]
    yield "megatron_model", megatron()["language_model"], []
    yield "cgcnn", {"epoch": 3, "state_dict": sd(), "best_mae_error": torch.tensor(0.3), "optimizer": opt(),
                    "normalizer": {"mean": torch.tensor(1.5), "std": torch.tensor(0.5)}, "args": {"lr": 0.1}}, ["state_dict"]
    yield "normalizer_arrays", {"model": sd(), "normalizer": {"mean": torch.ones(4), "std": torch.ones(4)}}, ["model"]
    yield "stats_beside", {"model": sd(), "stats": np.ones(3)}, ["model"]
    yield "mean_beside", {"net": sd(), "mean": torch.ones(3), "std": torch.ones(3)}, ["net"]
    yield "class_weights", {"model": sd(), "class_weights": torch.tensor([1.0, 2.0]), "classes": ["a", "b"]}, ["model"]
    yield "criterion", {"net": sd(), "criterion": CustomLoss().state_dict(), "epoch": 2}, ["net"]
    yield "rng_states", {"model": sd(), "optimizer": opt(), "rng_state": torch.get_rng_state(),
                         "cuda_rng": [torch.zeros(16, dtype=torch.uint8)], "scaler": {"scale": torch.tensor(65536.0),
                                                                                     "_growth_tracker": torch.tensor(0)}}, ["model"]
    yield "rng_dict", {"model": sd(), "random_states": rng(), "generator_state": torch.get_rng_state()}, ["model"]
    yield "rng_only", {"python": random.getstate(), "cpu": torch.get_rng_state(), "cuda": torch.zeros(816, dtype=torch.uint8)}, None
    yield "accelerate_random", {"step": 1, "random_state": random.getstate(), "torch_manual_seed": torch.get_rng_state()}, None
    yield "optimizer_only", opt(), None
    yield "optimizer_and_loss", {"optimizer": opt(), "loss": loss.detach(), "epoch": 1}, None
    yield "diffusers_ema", {"model": sd(), "ema": diffusers_ema(), "step": 3}, [["model"], ["ema", "shadow_params"]]
    yield "ema_only", diffusers_ema(), ["shadow_params"]
    yield "shadow_mapping", {"ema": {"decay": 0.99, "num_updates": torch.tensor(5), "shadow": plain}}, ["ema", "shadow"]
    yield "timm", {"epoch": 1, "arch": "vit", "state_dict": sd(), "state_dict_ema": sd(1), "optimizer": opt(), "version": 2,
                   "args": {"x": 1}, "amp_scaler": {"scale": 65536.0, "growth_factor": 2.0}, "metric": 71.5}, [["state_dict"], ["state_dict_ema"]]
    yield "timm_one", {"state_dict": sd(), "optimizer": opt(), "metric": torch.tensor(71.5)}, ["state_dict"]
    yield "ultralytics", {"epoch": -1, "best_fitness": None, "model": Detection().half(), "ema": None, "updates": None,
                          "optimizer": None, "train_args": {"task": "detect"}, "date": "2024", "version": "8"}, ["model"]
    yield "ultralytics_training", {"epoch": 3, "best_fitness": np.float64(0.5), "model": Detection(), "ema": Detection(1),
                                   "updates": 10, "optimizer": opt()}, [["model"], ["ema"]]
    yield "gan", {"G": sd(), "D": sd(1), "optG": opt(), "optD": opt()}, [["G"], ["D"]]
    yield "gan_plain", {"netG": {"w": torch.ones(2, 2)}, "netD": {"w": torch.ones(2, 2)}}, [["netG"], ["netD"]]
    yield "gan_modules", {"generator": net(), "discriminator": net(1), "epoch": 2}, [["generator"], ["discriminator"]]
    yield "actor_critic", {"actor": sd(), "critic": sd(1), "actor_optimizer": opt(), "log_alpha": torch.zeros(1)}, [["actor"], ["critic"]]
    yield "agent", Agent(), ["policy"]
    yield "stylegan", {"G": Generator(0), "D": None, "G_ema": Generator(1), "training_set_kwargs": {"path": "x"},
                       "augment_pipe": None}, [["G"], ["G_ema"]]
    yield "stylegan_ema", {"G_ema": Generator(1), "training_set_kwargs": {}}, ["G_ema"]
    yield "detectron2", {"model": {k: v.numpy() for k, v in sd().items()}, "__author__": "x", "matching_heuristics": True}, ["model"]
    yield "detectron2_training", {"model": sd(), "optimizer": opt(), "scheduler": scheduler(), "iteration": 100}, ["model"]
    yield "kfold", [sd(0), sd(1), sd(2)], [[0], [1], [2]]
    yield "kfold_dict", {"folds": [sd(0), sd(1)], "scores": torch.tensor([0.5, 0.6])}, [["folds", 0], ["folds", 1]]
    yield "pair", (sd(), opt()), [0]
    yield "per_layer", {"conv1": nn.Linear(2, 3).state_dict(), "fc": nn.Linear(3, 2).state_dict()}, [["conv1"], ["fc"]]
    yield "flax", {"params": {"Dense_0": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}, "Dense_1": {"kernel": np.ones((3, 2))}},
                   "step": 3, "opt_state": [{"mu": {"Dense_0": {"kernel": np.ones((2, 3))}}}]}, ["params"]
    yield "tree", {"encoder": {"w": torch.ones(2, 2), "block": {"w": torch.ones(2)}}, "scale": torch.ones(2)}, []
    yield "loose_top", {"loss": torch.ones(2), "acc": torch.ones(2)}, []
    yield "tensors", [torch.ones(2), torch.zeros(3)], []
    yield "values_beside_tensors", {"embedding": torch.ones(4, 2), "vocab": ["a", "b"], "dim": 2}, []
    yield "textual_inversion", {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": torch.ones(1, 4)},
                                "name": "cat", "step": 500}, ["string_to_param"]
    yield "linear_by_hand", {"weight": torch.ones(2, 2), "bias": torch.ones(2), "classes": 2}, []
    yield "extra_state", {"model": {"w": torch.ones(2), "_extra_state": {"step": 3}}, "optimizer": None}, ["model"]
    yield "nested_state", {"state": {"model": sd(), "optimizer": opt(), "metrics": {"auc": torch.tensor([0.5, 0.6])}}}, ["state", "model"]
    yield "alias", {"state_dict": shared, "model": shared, "epoch": 1}, ["state_dict"]
    yield "fairseq", {"args": None, "model": sd(), "criterion": None, "optimizer_history": [{"num_updates": 3}],
                      "last_optimizer_state": opt(), "extra_state": {"train_iterator": {"epoch": 1}, "val_loss": 0.5}}, ["model"]
    yield "mmengine", {"meta": {"epoch": 1}, "state_dict": sd(), "message_hub": {"log_scalars": {"loss": np.ones(4)}},
                       "optimizer": opt(), "param_schedulers": [scheduler()]}, ["state_dict"]
    yield "mmengine_ema", {"state_dict": sd(), "ema_state_dict": sd(1), "optimizer": opt()}, [["state_dict"], ["ema_state_dict"]]
    yield "rl_running_mean", {"policy_state_dict": sd(), "obs_rms": {"mean": np.ones(4), "var": np.ones(4), "count": 3.0},
                              "optimizer": opt()}, ["policy_state_dict"]
    yield "dqn", {"policy_net": sd(), "target_net": sd(1), "replay_buffer": [torch.ones(4), torch.ones(4)]}, [["policy_net"], ["target_net"]]
    yield "whisper", {"dims": {"n_mels": 80}, "model_state_dict": half}, ["model_state_dict"]
    yield "deepspeed", {"module": sd(), "buffer_names": [], "optimizer": None, "param_shapes": [collections.OrderedDict(
        (k, v.shape) for k, v in sd().items())], "frozen_param_shapes": None, "lr_scheduler": None, "ds_version": "0.14",
        "global_steps": 3}, ["module"]
    yield "opennmt", {"model": prefixed("encoder.", sd()), "generator": nn.Linear(3, 4).state_dict(), "vocab": {"src": ["a"]},
                      "opt": {"lr": 1}, "optim": {"training_step": 1, "decay_steps": 2, "optimizer": opt()}}, [["model"], ["generator"]]
    yield "averaged", {"model": sd(), "swa_model": prefixed("module.", sd(1)), "n_averaged": torch.tensor(3)}, [["model"], ["swa_model"]]
    yield "vae", {"encoder": sd(), "decoder": sd(1), "epoch": 3, "train_losses": np.ones(8)}, [["encoder"], ["decoder"]]
    yield "gaussian_splatting", ((3, nn.Parameter(torch.ones(4, 3)), torch.ones(4), opt(), 1.0), 7000), None
    yield "rvc", {"weight": half, "config": [1025, 32], "info": "200epoch", "sr": "40k", "f0": 1}, ["weight"]
    yield "hifigan_do", {"mpd": sd(), "msd": sd(1), "optim_g": opt(), "optim_d": opt(), "steps": 5, "epoch": 0}, [["mpd"], ["msd"]]
    yield "torch_ngp", {"epoch": 1, "stats": {"loss": [0.1], "checkpoints": []}, "mean_count": 3, "model": sd(), "optimizer": opt(),
                        "ema": {"decay": 0.95, "num_updates": 3, "shadow_params": [torch.ones(3, 2)], "collected_params": []},
                        "lr_scheduler": scheduler(), "scaler": {}}, [["model"], ["ema", "shadow_params"]]
    yield "esrgan", {"params": sd(), "params_ema": sd(1)}, [["params"], ["params_ema"]]
    yield "nnunet", {"network_weights": sd(), "optimizer_state": opt(), "grad_scaler_state": {"scale": 1.0},
                     "logging": {"train_losses": [np.float64(0.5)]}, "_best_ema": np.float64(0.5), "current_epoch": 2}, ["network_weights"]
    yield "rosinality", {"g": sd(), "d": sd(1), "g_ema": sd(2), "g_optim": opt(), "d_optim": opt(), "latent_avg": torch.ones(4)}, [
        ["g"], ["d"], ["g_ema"]]
    yield "audiocraft", {"best_state": {"model": sd()}, "xp.cfg": "x", "version": "1", "exported": True}, ["best_state", "model"]
    yield "openfold", {"ema": {"params": sd(), "decay": 0.999}, "global_step": 3, "optimizer": opt()}, ["ema", "params"]
    yield "fastai", {"model": sd(), "opt": {"state": [{"grad_avg": torch.ones(3, 2)}], "hypers": [{"lr": 0.1}]}}, ["model"]
    yield "bias_beside", {"model": sd(), "bias": torch.ones(3), "epoch": 1}, ["model"]
    yield "opt_model", {"opt_model": sd(), "args": {"lr": 0.1}}, ["opt_model"]
    yield "super_resolution", {"lr_net": sd(), "hr_net": sd(1)}, [["lr_net"], ["hr_net"]]
    yield "sae", {"W_enc": torch.ones(2, 4), "b_enc": torch.ones(4), "W_dec": torch.ones(4, 2), "cfg": {"k": 1}}, []
    yield "hypernetwork", {768: (sd(), sd(1)), "step": 10, "name": "x"}, [[768, 0], [768, 1]]
    yield "cifar", {"net": prefixed("module.", sd(bn=True)), "acc": 95.0, "epoch": 10}, ["net"]
    yield "nerf", {"global_step": 1, "network_fn_state_dict": sd(), "network_fine_state_dict": sd(1),
                   "optimizer_state_dict": opt()}, [["network_fn_state_dict"], ["network_fine_state_dict"]]
    yield "parts_of_model", {"model": {"backbone": sd(), "head": nn.Linear(2, 2).state_dict()}, "optimizer": opt()}, ["model"]
    yield "model_and_config", {"model": {"state_dict": sd(), "config": {"width": 2}}, "epoch": 1}, ["model", "state_dict"]
    yield "demucs", {"klass": Detection, "args": (), "kwargs": {}, "state": sd(), "training_args": None}, ["state"]
    yield "skorch", NeuralNet(), ["__cuda_dependent_attributes__", "module_"]
    yield "spaces", {"net a": sd(), "net b": sd(1)}, [["net a"], ["net b"]]
    yield "mean_std", {"model": prefixed("a2c.", sd()), "reward_mean_std": {"running_mean": torch.ones(1), "running_var": torch.ones(1),
                       "count": torch.ones(())}, "epoch": 1}, ["model"]
    yield "model_of_two", {"model": {"generator": sd(), "discriminator": sd(1)}, "optimizer": {"generator": opt()}, "steps": 3}, [
        ["model", "generator"], ["model", "discriminator"]]
    yield "model_in_model", {"model": {"state_dict": sd()}, "epoch": 1}, ["model", "state_dict"]
    yield "arrays_with_dots", {"kwargs": {"aabb": torch.ones(2, 3)}, "state_dict": {"density_plane.0": torch.ones(1, 2)},
                               "alphaMask.shape": (2, 2), "alphaMask.aabb": torch.ones(2, 3)}, ["state_dict"]
    yield "averaged_module", torch.optim.swa_utils.AveragedModel(net()), []
    yield "averaged_beside", {"model": net(), "swa": torch.optim.swa_utils.AveragedModel(net(1)), "swa_start": 3}, [["model"], ["swa"]]
    yield "deep", {"run": {"best": {"fold": {"state_dict": sd()}}}}, ["run", "best", "fold", "state_dict"]
    yield "logs_with_dots", {"model": sd(), "logs": {"val.acc": torch.ones(3), "train.acc": torch.ones(3)}}, ["model"]
    yield "ewc", {"model": sd(), "fisher": {"0.weight": torch.ones(3, 2)}, "masks": {"0.weight": torch.ones(3, 2)}}, ["model"]
    yield "parts_by_hand", {"encoder": dict(sd()), "classifier": {"W": torch.ones(2, 2), "c": torch.ones(2)}}, []
    yield "parts_by_hand_deep", {"encoder": dict(sd()), "heads": {"a": {"W": torch.ones(2, 2)}, "b": {"W": torch.ones(2)}}}, []
    yield "part_and_scale", {"encoder": dict(sd()), "scale": {"mean": torch.ones(2), "std": torch.ones(2)}}, ["encoder"]
    yield "pandas", {"model": sd(), "df": _pandas()}, ["model"]


def _pandas():
    import pandas
    return pandas.DataFrame({"a": np.arange(3.0), "b": np.arange(3)})


def digest(x):
    x = torch.as_tensor(x).detach().contiguous()
    return hashlib.sha256(x.reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b"").hexdigest()


def at(obj, path):
    for step in path:
        obj = torch.load(io.BytesIO(obj), weights_only=False) if isinstance(obj, bytes) else obj
        obj = obj[step] if not hasattr(obj, "__dict__") or isinstance(obj, (dict, list)) else getattr(obj, step)
    return obj


def flat(obj, prefix=""):
    """What is in a set, as names and tensors."""
    if isinstance(obj, nn.Module):
        obj = obj.state_dict()
    if isinstance(obj, (torch.Tensor, np.ndarray)):
        yield prefix, obj
    elif isinstance(obj, (dict, list, tuple)):
        for key, value in obj.items() if isinstance(obj, dict) else enumerate(obj):
            yield from flat(value, prefix + "." + str(key) if prefix else str(key))


def sklearn_and_stylegan(out):
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    rows = np.random.RandomState(0).rand(8, 2)
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, np.arange(8) % 2), os.path.join(out, "sklearn.joblib"))

    class Network:
        def __init__(self, seed):
            self.seed = seed

        def __getstate__(self):
            return {"version": 4, "name": "G", "static_kwargs": {"resolution": 4}, "components": {}, "build_module_src": "pass",
                    "variables": [("w", np.full((2, 2), self.seed)), ("b", np.ones(2))]}
    fake("dnnlib.tflib.network", Network=Network)
    with open(os.path.join(out, "stylegan_tf.pkl"), "wb") as f:
        pickle.dump((Network(0), Network(1), Network(2)), f)
    return {"sklearn.joblib": {}, "stylegan_tf.pkl": {}}


def main(out):
    os.makedirs(out, exist_ok=True)
    expected = {}
    for name, obj, taken in zoo():
        torch.save(obj, os.path.join(out, name + ".pt"))
        row = expected[name + ".pt"] = {}
        if taken is not None and taken and isinstance(taken[0], list):
            row["choices"] = [".".join(map(str, path)) for path in taken]
        elif taken is not None:
            row["root"] = ".".join(map(str, taken)) or "."
            row["tensors"] = {key: digest(value) for key, value in flat(at(obj, taken))}
    scripted = torch.jit.freeze(torch.jit.script(net().eval()))
    scripted.save(os.path.join(out, "frozen.pt"))
    expected["frozen.pt"] = {}
    expected.update(sklearn_and_stylegan(out))
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump(expected, f, indent=1, sort_keys=True)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
