types: list[str] = [
    "AWS::EC2::VPC",
    "AWS::S3::Bucket",
]
