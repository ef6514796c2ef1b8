class Net(Module):
  __parameters__ = []
  __buffers__ = ["steps", ]
  steps : Tensor
  training : bool
  _is_full_backward_hook : Optional[bool]
  fc : __torch__.torch.nn.modules.linear.Linear
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    fc = self.fc
    _0 = (fc).forward(x, )
    steps = self.steps
    return torch.add(_0, torch.sum(steps))
