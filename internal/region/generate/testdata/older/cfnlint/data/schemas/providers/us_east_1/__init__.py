types: list[str] = [
    "AWS::DMS::Endpoint",
    "AWS::EC2::VPC",
    "AWS::S3::Bucket",
]
