/**
 * Floating-point operations of an image in a training step: two for a multiply-add, what is frozen forward alone, what is trained forward and,
 * at twice that, backward.
 * @param {{ frozen: number, block: number, head: number }} multiplyAdds of a layer's plan
 */
export const stepOperations = ({ frozen, block, head }) => 2 * (frozen + 3 * (block + head));
