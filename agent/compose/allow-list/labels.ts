import { below, isNode, type KeyRule, refuse, text } from './key-rule.ts';

/** The labels by which compose and this agent find the containers of a stack. */
const OWN = /^com\.docker\.compose(\.|$)/i;

export const labels: KeyRule = {
  needs: 'nothing; never `com.docker.compose.*`',
  each: text,
  isMap: true,
  check: (value, at) => {
    if (!isNode(value)) return refuse(at, ' is not a map');
    for (const [name, one] of Object.entries(value)) {
      if (OWN.test(name)) refuse(below(at, name), ' is not allowed: compose sets these labels itself. Rename it');
      else text.check(one, below(at, name));
    }
  },
};
