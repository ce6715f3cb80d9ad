use blvm_node as _;
