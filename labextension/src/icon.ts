import { LabIcon } from '@jupyterlab/ui-components';

import mlserveSvg from '../style/icons/mlserve.svg';

/** The mark of the extension: a model and the calls that reach it. */
export const mlserveIcon = new LabIcon({
  name: 'mlserve-jupyter:mlserve',
  svgstr: mlserveSvg
});
