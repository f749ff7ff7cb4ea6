/** The element types of our tensors: their numbers in ONNX files and their sizes. */

/** TensorProto.DataType */
export const elementTypes = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const

export type DataType = keyof typeof elementTypes

export const elementBytes: Readonly<Record<DataType, number>> = {
  float32: 4,
  uint8: 1,
  int8: 1,
  int32: 4,
  int64: 8,
  bool: 1,
  float16: 2,
  bfloat16: 2,
}

export function dataTypeOf(elementType: number): DataType | undefined {
  return (Object.keys(elementTypes) as DataType[]).find((name) => elementTypes[name] === elementType)
}
